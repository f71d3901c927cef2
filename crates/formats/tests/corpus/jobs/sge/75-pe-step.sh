#!/bin/bash
#$ -pe orte 8-32:8
#$ -cwd
mpiexec -n $NSLOTS ./cfd
