#!/bin/bash
#$ -pe smp
#$ -l h_rt=1d
#$ -t 5-1
#$ -cwd /tmp
#$ -nosuch y
./x
