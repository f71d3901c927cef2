#!/bin/bash
echo "before"
#$ -cwd
module load gcc
#$ -N late
if true; then
#$ -l h_rt=300
    echo "inside"
fi
exit 0
#$ -j y
