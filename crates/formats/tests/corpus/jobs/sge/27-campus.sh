#!/bin/bash -l
#$ -l h_rt=10:10:0
#$ -l mem=1G
#$ -l tmpfs=15G
#$ -N campus
#$ -pe mpi 36
#$ -wd /home/me/Scratch/output
gerun ./a.out
