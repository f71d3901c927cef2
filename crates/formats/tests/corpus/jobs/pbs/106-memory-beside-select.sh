#!/bin/bash
#PBS -l select=1:ncpus=8
#PBS -l mem=32gb
#PBS -l place=spread
#PBS -l walltime=1:00:00
./solver
