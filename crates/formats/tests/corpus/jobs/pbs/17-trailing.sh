#!/bin/bash
#PBS -N trailing   # the name
#PBS -l walltime=1:00:00 # an hour
./run
