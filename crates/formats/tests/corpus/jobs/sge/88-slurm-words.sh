#!/bin/bash
#$ -N moved
#$ --mem=4G
#$ -c 4
#$ --time 01:00:00
./moved
