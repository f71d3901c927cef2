#!/bin/bash
#$ -pe mpi 4-
#$ -l h_rt=::30
./run
