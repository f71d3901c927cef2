#!/bin/sh
#PBS -N paths
#PBS -o store:/data/out/
#PBS -e store:/data/err/^array_index^.txt
#PBS -J 10-19
#PBS -R e
./step $PBS_ARRAY_INDEX
