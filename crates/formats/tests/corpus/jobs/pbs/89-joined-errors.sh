#!/bin/sh
#PBS -j eo
#PBS -e all.txt
#PBS -k n
#PBS -r n
ls /nowhere
