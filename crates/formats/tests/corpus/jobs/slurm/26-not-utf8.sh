#!/bin/bash
#SBATCH -n 2
#SBATCH --comment=café
./a.out
