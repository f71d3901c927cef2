#!/bin/bash
#PBS -J 1-100:3%10
#PBS -N sweep
#PBS -o logs/^array_index^.out
#PBS -e logs/
#PBS -r y
./sweep $PBS_ARRAY_INDEX
