#!/bin/bash
#$ -hard -l gpu=2,exclusive=true
#$ -soft -l fast_disk=1
#$ -hard -l h_fsize=10G
#$ -p -100
#$ -ar 12
./bench
