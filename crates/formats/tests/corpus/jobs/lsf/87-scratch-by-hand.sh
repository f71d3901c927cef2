#!/bin/bash
#BSUB -J relax
#BSUB -n 16
#BSUB -R "span[hosts=1] rusage[mem=3500/task,tmp=40000]"
#BSUB -W 71:59
#BSUB -wa TERM
#BSUB -wt 0:10
#BSUB -o relax.%J.log
WORK=${TMPDIR:-/tmp}/relax.$LSB_JOBID
bring_back() {
    cp -p "$WORK"/OUTCAR "$WORK"/CONTCAR "$LS_SUBCWD"/ 2>/dev/null
    rm -rf "$WORK"
}
trap bring_back EXIT
trap 'exit 143' TERM
mkdir -p "$WORK"
cp INCAR POSCAR KPOINTS POTCAR "$WORK"
cd "$WORK" || exit 1
mpirun -np 16 vasp_std
