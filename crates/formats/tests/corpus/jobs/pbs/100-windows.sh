#!/bin/bash
#PBS -N dos
#PBS -l nodes=1:ppn=1
./a.out
