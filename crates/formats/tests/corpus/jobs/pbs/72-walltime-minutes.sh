#!/bin/sh
#PBS -l ncpus=1,walltime=90:00
#PBS -l walltime=7200
./twice
