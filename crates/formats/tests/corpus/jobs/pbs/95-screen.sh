#!/bin/bash
#PBS -I -X
#PBS -l select=1:ncpus=2:mem=8gb,walltime=2:00:00
#PBS -q interactive
paraview
