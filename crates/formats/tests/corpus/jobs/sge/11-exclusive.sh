#!/bin/bash
#$ -l excl=TRUE
#$ -q all.q,long.q@node7
#$ -pe openmpi 16-64
./run
