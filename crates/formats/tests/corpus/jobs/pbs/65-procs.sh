#!/bin/bash
#PBS -l procs=96
#PBS -l pmem=1900mb
#PBS -l walltime=1:30:00
#PBS -l naccesspolicy=singletask
mpirun ./xhpl
