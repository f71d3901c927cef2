#!/bin/sh
#PBS -a 150830.15
#PBS -c w=60
echo on the 15th
