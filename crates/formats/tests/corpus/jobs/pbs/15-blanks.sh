#!/bin/bash
   #PBS -N indented
#PBS-l walltime=60
##PBS -l mem=1gb
# PBS -l mem=2gb

:
#PBS -l ncpus=4
#PBS -S /bin/bash@mars,/usr/bin/bash
echo now
#PBS -N late
