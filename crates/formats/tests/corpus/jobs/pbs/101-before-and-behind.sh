#!/bin/bash

# A heading, which is a comment.
#PBS -N heading

## Another.
#PBS -l select=1:ncpus=1

if true; then
#PBS -l walltime=5:00
    echo inside
fi
#PBS -q late
