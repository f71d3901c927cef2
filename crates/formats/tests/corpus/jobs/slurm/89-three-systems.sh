#!/bin/bash
#SBATCH --nodes=2
#SBATCH --time=60
#MSUB -l nodes=2,walltime=1:00:00
#COBALT -n 2 -t 60
#OAR -l nodes=2,walltime=1:00:00
#PJM -L "node=2,elapse=1:00:00"
#flux: -N2 -t 60m
#MSUB -N together
# The site moved twice, and the script with it.
if [ -n "$SLURM_JOB_ID" ]; then srun ./app; else mpirun ./app; fi
#MSUB -q late
