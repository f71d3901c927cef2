#!/bin/bash
#PBS -l place=scatter:excl
#PBS -l scratch=20gb
#PBS -l pmem=1gb
#PBS -l select=1:ncpus=1+2:ncpus=4
#PBS -q two
#PBS -P deep
./order
