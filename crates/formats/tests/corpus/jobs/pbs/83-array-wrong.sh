#!/bin/sh
#PBS -J 1-10:0
#PBS -J 1-10%0
#PBS -J a-b
#PBS -t 1-
#PBS -t 4,x
./x
