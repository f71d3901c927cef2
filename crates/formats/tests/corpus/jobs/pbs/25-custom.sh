#!/bin/bash
#PBS -l select=1:ncpus=1:fpga=2:scratch_type=ssd
#PBS -l software=matlab,matlab_lic=2
#PBS -l place=pack:group=rack
#PBS -l min_walltime=1:00:00,max_walltime=4:00:00
./run
