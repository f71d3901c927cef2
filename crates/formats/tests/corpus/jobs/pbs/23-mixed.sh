#!/bin/bash
#PBS -l select=1:ncpus=4
#PBS -l ncpus=8
./run
