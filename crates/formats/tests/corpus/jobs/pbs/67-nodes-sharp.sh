#!/bin/sh
#PBS -l nodes=4:ppn=2#excl
#PBS -l walltime=30:00
./bench
