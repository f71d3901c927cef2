#!/bin/sh
#PBS -l ncpus=1
#PBS -l walltime=10:12:30:00
./long
