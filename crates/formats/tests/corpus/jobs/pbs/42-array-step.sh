#!/bin/bash
#PBS -J 0-990:10%5
#PBS -l ncpus=1,mem=2gb,walltime=30:00
#PBS -r y
#PBS -e err.^array_index^
#PBS -o out.^array_index^
python3 fold.py --first $PBS_ARRAY_INDEX
