#!/bin/bash
#BSUB --ntasks=4
#BSUB -mem 4G
#BSUB -o=out
#BSUB -l nodes=1
#BSUB -W 1:00:00
#BSUB -t 60
#BSUB -n $CORES
./x
