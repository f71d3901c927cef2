#!/bin/bash
#$ -N tiny
#$ -l h_vmem=8
#$ -cwd
./big
