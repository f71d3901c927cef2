#!/bin/sh
#SBATCH --nodes=2-4
#SBATCH --tasks-per-node=16
#SBATCH --cpus-per-task=2
#SBATCH --threads-per-core=1
#SBATCH --constraint=[rack1|rack2]
#SBATCH --time=720
#SBATCH --time-min=120
#SBATCH --switches=1@10:00
#SBATCH --licenses=gmx:4,vmd
module purge
module load gromacs/2023
export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK
srun gmx_mpi mdrun -deffnm md -maxh 11.5
