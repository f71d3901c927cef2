#!/bin/sh
#SBATCH --partition=batch
#SBATCH --ntasks-per-node=64
#SBATCH --nodes=2
#SBATCH --ntasks-per-socket=32
#SBATCH --licenses=vasp:1,tokens*8
#SBATCH --wckey=surface
#SBATCH --time=2-12
#SBATCH --output=vasp.out
#SBATCH --error=vasp.err
#SBATCH --job-name="Pt(111) + CO"
ulimit -s unlimited
export OMP_NUM_THREADS=1
cp CONTCAR POSCAR 2>/dev/null
srun --mpi=pmi2 vasp_std
grep -q 'reached required accuracy' OUTCAR || exit 3
