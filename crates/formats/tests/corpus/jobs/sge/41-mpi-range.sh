#!/bin/sh
#$ -pe orte 16-64
#$ -l h_rt=36000
#$ -l infiniband=TRUE
#$ -R y
#$ -masterq head.q
#$ -notify
mpirun -np $NSLOTS -machinefile $TMPDIR/machines ./solver
