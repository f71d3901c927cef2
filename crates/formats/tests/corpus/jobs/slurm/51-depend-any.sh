#!/bin/bash
#SBATCH -d afternotok:77?aftercorr:78?after:79+5
./clean-up
