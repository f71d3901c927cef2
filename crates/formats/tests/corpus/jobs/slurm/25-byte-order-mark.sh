#!/bin/bash
#SBATCH -n 2
# café in an old encoding
./a.out é
