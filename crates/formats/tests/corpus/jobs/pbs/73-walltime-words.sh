#!/bin/sh
#PBS -l walltime=1-12:00:00
#PBS -l walltime=10h
#PBS -l walltime=
#PBS -l walltime=-5
#PBS -l walltime=unlimited
./x
