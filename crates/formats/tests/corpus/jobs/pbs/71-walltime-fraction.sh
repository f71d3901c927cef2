#!/bin/sh
#PBS -l ncpus=1
#PBS -l walltime=90:00.5
./short
