#!/bin/sh
#PBS -l select=1:ncpus=1:mem=1048576kb+1:ncpus=1:mem=2GB+1:ncpus=1:mem=134217728w+1:ncpus=1:mem=512Mw+1:ncpus=1:mem=1073741824+1:ncpus=1:mem=1tb
#PBS -l file=500MB
free -b
