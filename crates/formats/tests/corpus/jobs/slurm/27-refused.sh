#!/bin/bash
#SBATCH --uid=root
#SBATCH --bb=capacity=10G
#SBATCH --container=/bundle
true
