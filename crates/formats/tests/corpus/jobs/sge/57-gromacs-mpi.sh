#!/bin/bash
#$ -N npt
#$ -cwd
#$ -pe openmpi-fillup 48-96
#$ -R yes
#$ -l h_rt=23:50:00
#$ -l arch=lx*-amd64|lx26-x86
#$ -notify
#$ -hold_jid nvt,em
trap 'touch STOP' USR2
awk '{ print $1 " slots=" $2 }' "$PE_HOSTFILE" > hosts.$JOB_ID
mpirun -np "$NSLOTS" --hostfile hosts.$JOB_ID \
    mdrun_mpi -deffnm npt -maxh 23.5 -cpi npt.cpt -append
