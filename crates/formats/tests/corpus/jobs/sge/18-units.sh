#!/bin/bash
#$ -l h_vmem=1.5G,h_fsize=10g,h_stack=8192k
#$ -l h_data=1T
./run
