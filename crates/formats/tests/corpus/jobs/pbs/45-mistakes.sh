#!/bin/bash
#PBS -l walltime=2h
#PBS -l select=two:ncpus=4
#PBS -l mem=4 gb
#PBS -J 5-1
#PBS --name wrong
./x
