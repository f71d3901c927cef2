#!/bin/bash
#BSUB -J md_long
#BSUB -q gpu
#BSUB -n 12
#BSUB -R "span[hosts=1] affinity[core(1)]"
#BSUB -gpu "num=1:j_exclusive=yes:gmem=10G"
#BSUB -W 24:00
#BSUB -wa USR2 -wt 15
#BSUB -N -u me@lab.example
#BSUB -o md.%J.log
export OMP_NUM_THREADS=$LSB_DJOB_NUMPROC
again() { bsub < "$LSB_JOBFILENAME_COPY"; }
trap again USR2
if [ -f md.cpt ]; then
    gmx mdrun -deffnm md -cpi md.cpt -maxh 23.5 -nb gpu &
else
    gmx grompp -f md.mdp -c npt.gro -p topol.top -o md.tpr
    gmx mdrun -deffnm md -maxh 23.5 -nb gpu &
fi
wait
