#!/bin/bash
#$ -u someone
#$ -inherit
#$ -@ options
./run
