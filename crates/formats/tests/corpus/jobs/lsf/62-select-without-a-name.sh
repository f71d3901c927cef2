#!/bin/bash
#BSUB -R "type==any order[ut] same[model] rusage[mem=800]"
#BSUB -R bigmem
#BSUB -o o
./x
