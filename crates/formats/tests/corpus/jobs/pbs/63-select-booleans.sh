#!/bin/sh
#PBS -l select=ncpus=2:green=True:blue=false+2:ncpus=1:arch=linux:os_ver="rocky9"
#PBS -l place=vscatter
#PBS -l color=red
uname -a
