#!/bin/bash
#PBS -N hello
#PBS -l walltime=00:05:00
#PBS -j oe
cd $PBS_O_WORKDIR
echo hello
