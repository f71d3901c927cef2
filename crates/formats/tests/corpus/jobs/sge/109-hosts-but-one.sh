#!/bin/bash
#$ -N bench
#$ -cwd
#$ -l h=(n11|n12|n13)&!n12
#$ -pe smp 8
#$ -l exclusive
likwid-bench -t triad -W S0:1GB:8
