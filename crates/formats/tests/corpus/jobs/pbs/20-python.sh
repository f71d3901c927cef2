#!/usr/bin/python3
#PBS -l select=1:ncpus=3:mem=1gb
#PBS -N HelloJob
print("Hello")
#PBS -l walltime=1:00
