#!/bin/sh
#PBS -a 2330
#PBS -c s
echo tonight
