#!/bin/bash
#PBS -t 0-9%3
#PBS -l nodes=1:ppn=1
#PBS -l walltime=10:00
./sweep $PBS_ARRAYID
