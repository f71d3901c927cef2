#!/bin/bash
#PBS -N md
#PBS -l select=1:ncpus=16:mpiprocs=2:ompthreads=8:ngpus=2:mem=30gb
#PBS -l walltime=23:59:00
#PBS -r y
#PBS -v STAGE
# Each job runs for a day and submits the next one.
cd "$PBS_O_WORKDIR" || exit 1
STAGE=${STAGE:-1}
if [ "$STAGE" -lt 10 ]; then
    next=$(qsub -v STAGE=$((STAGE + 1)) -W depend=afterok:"$PBS_JOBID" md.sh)
    echo "stage $STAGE, then $next"
fi
#PBS -l walltime=1:00:00
gmx mdrun -deffnm prod -cpi prod.cpt -maxh 23.5 -ntmpi 2 -ntomp "$OMP_NUM_THREADS"
