#!/bin/bash
#PBS -l nodes=1:ppn=1,mem=16gb,walltime=00:00:30
#PBS -q batch
cd $PBS_O_WORKDIR
./a.out
