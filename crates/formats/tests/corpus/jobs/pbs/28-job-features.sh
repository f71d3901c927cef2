#!/bin/bash
#PBS -l software=matlab
#PBS -l select=1:ncpus=1:arch=linux
#PBS -l ddisk=10gb,io=5gb
./run
