#!/bin/bash
#PBS -N slots
#PBS -t 3,7,11-13%2
#PBS -l nodes=1:ppn=1,walltime=15:00
#PBS -o $PBS_O_WORKDIR/out.$PBS_ARRAYID
#PBS -j oe
sed -n "${PBS_ARRAYID}p" cases.txt | xargs ./solve
